import type { PartSeconds } from "../report/report.js";

/** Adds up where the time goes. */
export class Stopwatch {
  private readonly began = performance.now();
  readonly parts: PartSeconds = { read: 0, forward: 0, hessian: 0, factor: 0, sweep: 0, pack: 0, write: 0 };

  /** Runs `work` and books its wall time under `part`. */
  async time<T>(part: keyof PartSeconds, work: () => T | Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await work();
    } finally {
      this.parts[part] += (performance.now() - start) / 1000;
    }
  }

  /** Seconds since the run began. */
  elapsed(): number {
    return (performance.now() - this.began) / 1000;
  }
}
