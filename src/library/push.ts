import { InputError } from "../errors.js";
import { finishedFolder } from "../pipeline/finished-folder.js";
import { firstOfJournal } from "../pipeline/folder-sink.js";
import { openWeights } from "../pipeline/open-weights.js";
import { publishFinished, type PushEvent } from "../pipeline/push.js";
import type { PublishTo } from "../publish/hub-publisher.js";
import type { Published } from "../publish/publisher.js";
import { openFolder } from "../source/folder.js";
import { patienceOf } from "./patience.js";
import { publisherOf } from "./publisher.js";

export interface PushOptions extends PublishTo {
  /** Folder of a finished checkpoint. */
  readonly folder: string;
  readonly onEvent?: (event: PushEvent) => void;
  /** Ends it at once; what was sent need not be sent again. */
  readonly signal?: AbortSignal;
}

/**
 * Publishes a finished checkpoint's folder on the Hub, in one commit; what the Hub has is not sent. `url` is the page to open. Throws
 * `InputError` for a folder that holds no whole checkpoint, or another than its report says.
 */
export async function push(options: PushOptions): Promise<Published> {
  const { folder, onEvent, signal, ...to } = options;
  const emit = onEvent ?? (() => undefined);
  if ((await firstOfJournal(folder)) !== undefined) throw new InputError(`${folder} holds a run that is not finished; finish it first, by the command that began it`);
  const source = await openFolder(folder);
  try {
    // It refuses whatever is not whole.
    await openWeights(source);
  } finally {
    await source.close();
  }
  return publishFinished(finishedFolder(folder), () => publisherOf(to, emit, patienceOf(signal, emit)), emit);
}
