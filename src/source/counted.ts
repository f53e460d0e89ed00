import type { Source } from "./source.js";

/** A source on a Hub, with what a run wants to know of it. */
export class CountedSource implements Source {
  readonly label: string;
  readonly hub: NonNullable<Source["hub"]>;
  private bytes = 0;

  constructor(private readonly source: Source, repo: string, commit: string) {
    this.label = source.label;
    this.hub = { repo, commit, bytesRead: () => this.bytes };
  }

  list(): Promise<ReadonlyMap<string, number>> {
    return this.source.list();
  }

  async read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await this.source.read(path, start, end);
    this.bytes += bytes.length;
    return bytes;
  }

  fingerprint(path: string): Promise<string> {
    return this.source.fingerprint(path);
  }
}
