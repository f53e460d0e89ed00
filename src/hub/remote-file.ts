import { InputError } from "../errors.js";
import { quote } from "../safetensors/json.js";
import { Attempts, Broken } from "./attempts.js";
import type { SteadyOptions } from "./attempts.js";
import { addressOf, exchange } from "./exchange.js";
import type { Exchange } from "./exchange.js";
import type { Hub, HubRepo } from "./hub.js";
import { pageOf, refusalOf } from "./refusal.js";
import { brokenOf, statusOf } from "./statuses.js";

/** From a server that ignores Range, so much is read and dropped to come to the bytes that are wanted, and no more. */
const MAX_WASTE_BYTES = 4 * 1024 * 1024;

/** What a CDN says of a signed address whose time is over. */
const EXPIRED = [401, 403, 404, 410];

/** A body that is not what its headers say: none of it is believed. */
class TooLong extends Broken {
  constructor(wanted: number) {
    super(`sends more than the ${wanted} bytes that were asked for`);
  }
}

/** Git's ids and SHA-256; what else stands in an ETag is of no meaning here. */
const TAG = /^(?:W\/)?"?([0-9a-f]{40}|[0-9a-f]{64})"?$/;

/** What the Hub says of a file, beside its bytes. */
export interface FileIdentity {
  readonly size?: number;
  /** LFS files: their SHA-256; others: git's id. The Hub sends it as `x-linked-etag` or `etag`. */
  readonly tag?: string;
}

/**
 * One file of a repo at a commit. `/resolve/` redirects to wherever the bytes lie, mostly a CDN with a signed address, which
 * is kept for the next read until it no longer holds.
 */
export class RemoteFile {
  readonly url: string;
  /** Where the redirects led last. */
  private place: string | undefined;
  private size: number | undefined;
  private tag: string | undefined;

  /** @param identity as the commit's tree lists it, where it is known: what differs from it is an error */
  constructor(
    private readonly hub: Hub,
    private readonly repo: HubRepo,
    private readonly commit: string,
    private readonly path: string,
    identity: FileIdentity = {},
  ) {
    this.url = `${pageOf(hub, repo)}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
    this.size = identity.size;
    this.tag = identity.tag;
  }

  /**
   * Fills `bytes` from byte `start` of the file on. A try goes on where the last one stopped.
   * @param received is told of every chunk, those of failed tries too
   */
  async read(bytes: Uint8Array, start: number, options: SteadyOptions, received: (bytes: number) => void = () => undefined): Promise<void> {
    const attempts = new Attempts(`GET ${this.url}`, options);
    for (let done = 0; done < bytes.length; ) {
      const before = done;
      try {
        for await (const count of this.take(bytes.subarray(done), start + done, options, received)) done += count;
        if (done < bytes.length) throw new Broken(`the body ends at byte ${start + done}, short of ${start + bytes.length}`);
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        if (error instanceof TooLong) done = before;
        if (done > before) attempts.progressed();
        await attempts.wait(error);
      }
    }
  }

  /** One try; yields how many bytes each chunk brought. */
  private async *take(bytes: Uint8Array, start: number, options: SteadyOptions, received: (bytes: number) => void): AsyncGenerator<number, void> {
    const end = start + bytes.length;
    const answer = await this.ask(start, end, options);
    let skip: number;
    let whole: boolean;
    try {
      [skip, whole] = this.check(answer, start, end);
    } catch (error) {
      answer.close();
      throw error;
    }
    let done = 0;
    for await (const chunk of answer.chunks()) {
      received(chunk.length);
      const fresh = chunk.subarray(Math.min(skip, chunk.length));
      skip -= chunk.length - fresh.length;
      if (fresh.length > bytes.length - done && !whole) {
        throw new TooLong(bytes.length);
      }
      const taken = fresh.subarray(0, bytes.length - done);
      bytes.set(taken, done);
      done += taken.length;
      if (taken.length > 0) yield taken.length;
      if (whole && done === bytes.length) return;
    }
  }

  /** Asks where the file was found last, and where that is over, asks the Hub again. */
  private async ask(start: number, end: number, options: SteadyOptions): Promise<Exchange> {
    const init = { headers: { range: `bytes=${start}-${end - 1}` } };
    if (this.place !== undefined) {
      const answer = await exchange(this.hub, this.place, init, options);
      if (!EXPIRED.includes(answer.response.status)) return answer;
      answer.close();
      this.place = undefined;
    }
    const answer = await exchange(this.hub, this.url, init, options, (hop) => this.identify(hop));
    const { response, url } = answer;
    if (url === this.url) {
      this.identify(response);
      if (response.status === 401 || response.status === 403 || response.status === 404) {
        const refusal = await refusalOf(response, this.hub, this.repo, this.path);
        answer.close();
        throw refusal;
      }
    } else if (response.ok) this.place = url;
    return answer;
  }

  /** The bytes to skip at the body's beginning, and whether it is the whole file. Throws where it is anything but what was asked for. */
  private check({ response, url }: Exchange, start: number, end: number): [number, boolean] {
    const where = addressOf(url);
    const broken = brokenOf(response);
    if (broken) throw broken;
    if (EXPIRED.includes(response.status)) throw new Broken(`${new URL(url).host} answers with ${statusOf(response)}`);
    if (response.status === 416) throw this.shorter(end);
    if (response.status === 200) {
      const length = response.headers.get("content-length");
      // A body that is packed is of another length.
      if (length !== null && response.headers.get("content-encoding") === null) this.measure(Number(length), end);
      if (start > MAX_WASTE_BYTES) throw new Broken(`sends the whole file where bytes ${start} to ${end} were asked for: it ignores Range`);
      return [start, true];
    }
    if (response.status !== 206) throw new InputError(`${where}: answers with ${statusOf(response)}`);
    const said = response.headers.get("content-range") ?? "";
    const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(said);
    if (!match || Number(match[1]) !== start || Number(match[2]) >= end) {
      throw new InputError(`${where}: answers with Content-Range ${quote(said)}, where bytes ${start} to ${end - 1} were asked for`);
    }
    if (match[3] !== "*") this.measure(Number(match[3]), end);
    if (Number(response.headers.get("content-length")) > end - start) throw new TooLong(end - start);
    return [0, false];
  }

  /** What the Hub says of the file when it redirects or answers: a commit's files never change, so a difference is an error. */
  private identify({ status, headers }: Response): void {
    if (status >= 400) return;
    const commit = headers.get("x-repo-commit");
    if (commit !== null && commit !== this.commit) throw this.changed(`is of commit ${quote(commit)}`);
    const tag = TAG.exec(headers.get("x-linked-etag") ?? (status < 300 ? headers.get("etag") : null) ?? "")?.[1];
    if (tag === undefined) return;
    this.tag ??= tag;
    if (tag !== this.tag) throw this.changed(`has the hash ${quote(tag)}, where ${quote(this.tag)} was expected`);
  }

  private measure(size: number, end: number): void {
    if (this.size !== undefined && size !== this.size) throw this.changed(`has ${size} bytes, where ${this.size} were expected`);
    this.size = size;
    if (end > size) throw this.shorter(end);
  }

  private shorter(end: number): InputError {
    return new InputError(`${this.url}: ends before byte ${end}${this.size === undefined ? "" : `; it has ${this.size} bytes`}`);
  }

  private changed(how: string): InputError {
    return new InputError(`${this.url}: ${how}; the file changed while it was read, run the same command again`);
  }
}
