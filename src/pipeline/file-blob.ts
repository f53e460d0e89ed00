import { open } from "node:fs/promises";
import { InputError } from "../errors.js";

const CHUNK = 1 << 20;

/**
 * A file, or a stretch of it, as a Blob that is read only when it is sent, and never held whole. Node's own `openAsBlob` takes bytes beyond
 * 4 GiB from the wrong place (seen in Node 20).
 */
export class FileBlob extends Blob {
  /** @param end behind the last byte */
  constructor(
    private readonly path: string,
    private readonly start: number,
    private readonly end: number,
  ) {
    super();
  }

  override get size(): number {
    return this.end - this.start;
  }

  /** As for any Blob, but from the front only. */
  override slice(start = 0, end = this.size): FileBlob {
    const at = (bytes: number): number => this.start + Math.min(Math.max(bytes, 0), this.size);
    return new FileBlob(this.path, at(start), Math.max(at(start), at(end)));
  }

  override stream(): ReadableStream<Uint8Array<ArrayBuffer>> {
    let at = this.start;
    return new ReadableStream({
      pull: async (sink) => {
        if (at < this.end) {
          const chunk = await this.read(at);
          at += chunk.length;
          sink.enqueue(chunk);
        }
        if (at === this.end) sink.close();
      },
    });
  }

  override async arrayBuffer(): Promise<ArrayBuffer> {
    return new Response(this.stream()).arrayBuffer();
  }

  override async text(): Promise<string> {
    return new TextDecoder().decode(await this.arrayBuffer());
  }

  /** Some bytes. The file is open no longer than that: whoever sends a body and is cut off does not always say that no more is wanted. */
  private async read(at: number): Promise<Uint8Array<ArrayBuffer>> {
    const file = await open(this.path, "r");
    try {
      const chunk = new Uint8Array(Math.min(CHUNK, this.end - at));
      const { bytesRead } = await file.read(chunk, 0, chunk.length, at);
      if (bytesRead === 0) throw new InputError(`${this.path} is shorter than it was: it changed while it was sent`);
      return chunk.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  }
}
