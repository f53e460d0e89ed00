import type { RetryEvent } from "../index.js";
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
  private last: Status | undefined;
  /** What is asked once more, until a time in ms. */
  private waiting: { readonly text: string; readonly until: number } | undefined;

  constructor(private readonly out: NodeJS.WriteStream) {}

  update(status: Status): void {
    this.last = status;
    if (this.out.isTTY && Date.now() - this.drawnAt >= REDRAW_MS) this.draw();
  }

  /** Says what a Hub is asked once more, until it is; a log gets it as a line that stays. */
  retry({ request, why, next, tries, seconds }: RetryEvent): void {
    // The end may be cut off: what matters comes first.
    const text = `Trying again in ${formatSeconds(seconds)} (${String(next)} of ${String(tries)}): ${why}, ${request}`;
    this.waiting = { text, until: Date.now() + 1000 * seconds };
    if (this.out.isTTY) this.draw();
    else this.print(text);
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

  private draw(): void {
    this.drawnAt = Date.now();
    this.shown = true;
    const waiting = this.waiting !== undefined && this.drawnAt < this.waiting.until ? this.waiting.text : undefined;
    // \x1b[K clears what a longer line left behind.
    this.out.write(`\r${render(this.last, waiting).slice(0, (this.out.columns || 80) - 1)}\x1b[K`);
  }
}

function render(status: Status | undefined, waiting: string | undefined): string {
  if (status === undefined) return waiting ?? "";
  const { done, doing, error, tokensPerSecond, secondsLeft } = status;
  const full = Math.round(BAR * done);
  const bar = `${"█".repeat(full)}${"░".repeat(BAR - full)} ${(100 * done).toFixed(0).padStart(3)} %`;
  if (waiting !== undefined) return `${bar}  ${waiting}`;
  const parts = [
    bar,
    doing,
    ...(error === undefined ? [] : [`error ${error.toExponential(1)}`]),
    ...(tokensPerSecond === undefined ? [] : [`${formatCount(tokensPerSecond)} tokens/s`]),
    formatBytes(process.memoryUsage.rss()),
    ...(secondsLeft === undefined ? [] : [`${formatSeconds(secondsLeft)} left`]),
  ];
  return parts.join("  ");
}
