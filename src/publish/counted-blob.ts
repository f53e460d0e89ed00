/** A Blob that tells, while it is sent, how many of its bytes went out; sent once more, it begins at 0 again. */
export class CountedBlob extends Blob {
  /** @param onBytes told of the bytes that went out, all together */
  constructor(
    private readonly content: Blob,
    private readonly onBytes: (bytes: number) => void,
  ) {
    super();
  }

  override get size(): number {
    return this.content.size;
  }

  override stream(): ReadableStream<Uint8Array<ArrayBuffer>> {
    let sent = 0;
    this.onBytes(0);
    const counter = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform: (chunk, out) => {
        this.onBytes((sent += chunk.byteLength));
        out.enqueue(chunk);
      },
    });
    return this.content.stream().pipeThrough(counter);
  }
}
