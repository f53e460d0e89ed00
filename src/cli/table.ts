/** Columns of text: those whose name begins with ">" are set to the right. */
export function table(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const right = columns.map((name) => name.startsWith(">"));
  const all = [columns.map((name) => name.replace(/^>/, "")), ...rows];
  const widths = columns.map((_, i) => Math.max(...all.map((row) => row[i].length)));
  const line = (row: readonly string[]): string => row.map((cell, i) => (right[i] ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join("  ").trimEnd();
  return [line(all[0]), widths.map((width) => "─".repeat(width)).join("  "), ...all.slice(1).map(line)].join("\n");
}
