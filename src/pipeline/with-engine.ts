import type { Engine } from "../engine/engine.js";

/** Lends `work` an engine. An abort stops it in the middle of whatever it computes, and comes out as the signal's reason. */
export async function withEngine<R>(
  { engine: start, signal }: { readonly engine: () => Promise<Engine>; readonly signal?: AbortSignal },
  work: (engine: Engine) => Promise<R>,
): Promise<R> {
  signal?.throwIfAborted();
  const engine = await start();
  const stop = (): void => void engine.close();
  signal?.addEventListener("abort", stop, { once: true });
  try {
    return await work(engine);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
    await engine.close();
  }
}
