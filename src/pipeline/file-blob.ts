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
    const bytes = this.read();
    return new ReadableStream({
      async pull(sink) {
        const { done, value } = await bytes.next();
        if (done === true) sink.close();
        else sink.enqueue(value);
      },
      async cancel() {
        await bytes.return();
      },
    });
  }

  override async arrayBuffer(): Promise<ArrayBuffer> {
    return new Response(this.stream()).arrayBuffer();
  }

  override async text(): Promise<string> {
    return new TextDecoder().decode(await this.arrayBuffer());
  }

  /** Closes the file at its end, or when nobody wants more of it. */
  private async *read(): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
    const file = await open(this.path, "r");
    try {
      for (let at = this.start; at < this.end; ) {
        const chunk = new Uint8Array(Math.min(CHUNK, this.end - at));
        const { bytesRead } = await file.read(chunk, 0, chunk.length, at);
        if (bytesRead === 0) throw new InputError(`${this.path} is shorter than it was: it changed while it was sent`);
        at += bytesRead;
        yield chunk.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
  }
}
