// What every program made of every family in every format, as the table that stands in the README.

/** The programs, by how the names of their checks begin. */
const PROGRAMS = [
  ["transformers.js", "transformers.js"], ["transformers", "transformers"], ["gptqmodel", "GPTQModel"], ["mlx_lm", "mlx-lm"], ["llama.cpp", "llama.cpp"], ["gguf", "gguf (Python)"],
];

/**
 * @param results { family, format, check, ok, detail } of all checks
 * @returns Markdown: a row for each format and program, a column for each family; undefined where no program read any
 */
export function familyTable(results) {
  const read = results.flatMap((result) => {
    const program = PROGRAMS.find(([start]) => result.check.startsWith(start))?.[1];
    return program === undefined ? [] : [{ ...result, program }];
  });
  if (read.length === 0) return undefined;
  const families = [...new Set(read.map(({ family }) => family))];
  const rows = [...new Set(read.map(({ format, program }) => `${format} | ${program}`))].map((row) => {
    const cells = families.map((family) => {
      const own = read.filter((result) => result.family === family && `${result.format} | ${result.program}` === row);
      if (own.length === 0) return "";
      return own.find(({ ok }) => !ok)?.detail.split("\n")[0] ?? "yes";
    });
    return `| ${row} | ${cells.join(" | ")} |`;
  });
  return [`| format | read by | ${families.join(" | ")} |`, `|${"---|".repeat(families.length + 2)}`, ...rows].join("\n");
}
