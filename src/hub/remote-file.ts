import { InputError } from "../errors.js";
import { quote } from "../safetensors/json.js";
import { Attempts, Broken } from "./attempts.js";
import type { SteadyOptions } from "./attempts.js";
import { addressOf, exchange, wholeOf } from "./exchange.js";
import type { Exchange } from "./exchange.js";
import type { Hub, HubRepo } from "./hub.js";
import { pageOf, refusalOf } from "./refusal.js";
import { brokenOf, statusOf } from "./statuses.js";
import { told } from "./told.js";

/** From a server that ignores Range, so much is read and dropped to come to the bytes that are wanted, and no more. */
const MAX_WASTE_BYTES = 4 * 1024 * 1024;

/**
 * What a CDN says of a signed address whose time is over. S3 and CloudFront: 403, "Request has expired"; Google's storage, and S3 where the
 * key was a passing one: 400, ExpiredToken (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
 */
const EXPIRED = [400, 401, 403, 404, 410];

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
 * is kept for the next read until it no longer holds or gives nothing.
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
        await this.take(bytes.subarray(before), start + before, options, received, (count) => (done += count));
        if (done < bytes.length) throw new Broken(`the body ends at byte ${start + done}, short of ${start + bytes.length}`);
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        if (error instanceof TooLong) done = before;
        if (done > before) attempts.progressed();
        // The CDN's host may be out of order, and another one in its place by now.
        else this.place = undefined;
        await attempts.wait(error);
      }
    }
  }

  /** One try; tells how many bytes each chunk brought. */
  private async take(bytes: Uint8Array, start: number, options: SteadyOptions, received: (bytes: number) => void, taken: (bytes: number) => void): Promise<void> {
    const answer = await this.ask(start, start + bytes.length, options);
    try {
      // A whole file is skipped to where the bytes begin, and what follows them is left.
      const whole = answer.response.status === 200;
      let skip = this.check(answer, start, start + bytes.length);
      for (let done = 0; !whole || done < bytes.length; ) {
        const chunk = await answer.next();
        if (chunk === undefined) return;
        received(chunk.length);
        const fresh = chunk.subarray(Math.min(skip, chunk.length), whole ? Math.min(chunk.length, skip + bytes.length - done) : undefined);
        skip = Math.max(0, skip - chunk.length);
        if (fresh.length > bytes.length - done) throw new TooLong(bytes.length);
        bytes.set(fresh, done);
        done += fresh.length;
        taken(fresh.length);
      }
    } finally {
      answer.close();
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
    if (this.isOwn(url) && [401, 403, 404].includes(response.status)) throw await refusalOf(await wholeOf(answer), this.hub, this.repo, this.path);
    if (url !== this.url && response.ok) this.place = url;
    return answer;
  }

  /** Whether the Hub itself answers there, as it does for small files, and of repos that were renamed. */
  private isOwn(url: string): boolean {
    return new URL(url).origin === new URL(this.hub.endpoint).origin;
  }

  /** How many bytes to skip at the body's beginning. Throws where it is anything but what was asked for. */
  private check({ response, url }: Exchange, start: number, end: number): number {
    const { status, headers } = response;
    const broken = brokenOf(response);
    if (broken) throw broken;
    if (!this.isOwn(url) && EXPIRED.includes(status)) throw new Broken(`${new URL(url).host} answers with ${statusOf(response)}`);
    if (status === 416) throw this.shorter(end);
    if (url === this.url) this.identify(response);
    const length = headers.get("content-length");
    if (status === 200) {
      // A body that is packed is of another length.
      if (length !== null && headers.get("content-encoding") === null) this.measure(Number(length), end);
      if (start > MAX_WASTE_BYTES) throw new Broken(`sends the whole file where bytes ${start} to ${end} were asked for: it ignores Range`);
      return start;
    }
    if (status !== 206) throw new InputError(`${addressOf(url)}: answers with ${statusOf(response)}`);
    const said = headers.get("content-range") ?? "";
    const [, from, last, size] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(said) ?? [];
    if (Number(from) !== start || !(Number(last) < end)) {
      throw new InputError(`${addressOf(url)}: answers with Content-Range ${told(this.hub, said)}, where bytes ${start} to ${end - 1} were asked for`);
    }
    if (size !== "*") this.measure(Number(size), end);
    if (Number(length) > end - start) throw new TooLong(end - start);
    return 0;
  }

  /** What the Hub says of the file when it redirects or answers: a commit's files never change, so a difference is an error. */
  private identify({ status, headers }: Response): void {
    const commit = headers.get("x-repo-commit");
    if (commit !== null && commit !== this.commit) throw this.changed(`is of commit ${told(this.hub, commit)}`);
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
