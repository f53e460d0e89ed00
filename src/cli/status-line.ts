import { formatBytes, formatCount, formatSeconds } from "./units.js";

const REDRAW_MS = 100;
const BAR = 24;

export interface Status {
  /** 0 … 1. */
  readonly done: number;
  /** What is under way, as "layer 3/30, mlp in". */
  readonly doing: string;
  /** Relative error of the linear that was quantized last. */
  readonly error?: number | undefined;
  readonly tokensPerSecond?: number | undefined;
  readonly secondsLeft?: number | undefined;
}

/** One line that is drawn over and over on a terminal; where there is none (a log, a pipe) it stays silent. */
export class StatusLine {
  private drawnAt = 0;
  private shown = false;

  constructor(private readonly out: NodeJS.WriteStream) {}

  update(status: Status): void {
    const now = Date.now();
    if (!this.out.isTTY || now - this.drawnAt < REDRAW_MS) return;
    this.drawnAt = now;
    this.shown = true;
    // \x1b[K clears what a longer line left behind.
    this.out.write(`\r${render(status, process.memoryUsage.rss()).slice(0, (this.out.columns || 80) - 1)}\x1b[K`);
  }

  /** Prints a line that stays, above the status. */
  print(line: string): void {
    this.clear();
    this.out.write(`${line}\n`);
  }

  clear(): void {
    if (this.shown) this.out.write("\r\x1b[K");
    this.shown = false;
  }
}

function render({ done, doing, error, tokensPerSecond, secondsLeft }: Status, rss: number): string {
  const full = Math.round(BAR * done);
  const parts = [
    `${"█".repeat(full)}${"░".repeat(BAR - full)} ${(100 * done).toFixed(0).padStart(3)} %`,
    doing,
    ...(error === undefined ? [] : [`error ${error.toExponential(1)}`]),
    ...(tokensPerSecond === undefined ? [] : [`${formatCount(tokensPerSecond)} tokens/s`]),
    formatBytes(rss),
    ...(secondsLeft === undefined ? [] : [`${formatSeconds(secondsLeft)} left`]),
  ];
  return parts.join("  ");
}
