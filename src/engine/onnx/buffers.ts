import { discard } from "./discard.js";

// Enough for the outputs of a stage and its neighbours.
const MOST_KEPT = 6;

/** Buffers that are no longer needed, to be given out again. New ones come from the system page by page, which costs more than filling them. */
export class Buffers {
  #idle: ArrayBuffer[] = [];

  /** A buffer of just that many bytes; what it holds is arbitrary. */
  take(bytes: number): ArrayBuffer {
    const found = this.#idle.findIndex(({ byteLength }) => byteLength === bytes);
    return found < 0 ? new ArrayBuffer(bytes) : this.#idle.splice(found, 1)[0];
  }

  give(buffer: ArrayBuffer): void {
    if (buffer.byteLength === 0 || this.#idle.includes(buffer)) return;
    this.#idle.push(buffer);
    discard(this.#idle.splice(0, this.#idle.length - MOST_KEPT));
  }
}
