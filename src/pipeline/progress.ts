import type { QuantizeEvent } from "./events.js";
import type { Stopwatch } from "./stopwatch.js";

/** Turns what is done into how far the run is, how fast, and how long it will still take. */
export class Progress {
  private first = 0;
  private beganAt = 0;
  private stageBeganAt = 0;
  private layerBeganAt = 0;

  constructor(
    private readonly layers: number,
    private readonly watch: Stopwatch,
    private readonly emit: (event: QuantizeEvent) => void,
    private readonly bytesRead?: () => number,
  ) {}

  /** The layers from `first` on are still to be done. */
  begin(first: number): void {
    this.first = first;
    this.beganAt = this.layerBeganAt = this.stageBeganAt = this.watch.elapsed();
  }

  /** So many of a stage's tokens are through. */
  batchDone(layer: number, stage: number, stages: number, name: string, tokens: number, total: number): void {
    const now = this.watch.elapsed();
    const done = (layer - this.first + (stage + tokens / total) / stages) / (this.layers - this.first);
    this.emit({
      type: "progress", layer, layers: this.layers, stage: name, done,
      tokensPerSecond: tokens / Math.max(1e-3, now - this.stageBeganAt),
      secondsLeft: ((now - this.beganAt) / done) * (1 - done),
    });
    if (tokens === total) this.stageBeganAt = now;
  }

  layerDone(layer: number): void {
    const now = this.watch.elapsed();
    this.emit({ type: "layer", layer, layers: this.layers, seconds: now - this.layerBeganAt, ...(this.bytesRead && { bytesRead: this.bytesRead() }) });
    this.layerBeganAt = this.stageBeganAt = now;
  }
}
