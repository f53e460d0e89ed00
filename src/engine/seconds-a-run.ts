/** Seconds a run, over as many as fit into `seconds`; `settle` waits until they are done. */
export async function secondsARun(run: () => Promise<unknown>, seconds: number, settle: () => Promise<unknown> = () => Promise.resolve()): Promise<number> {
  await run();
  await settle();
  const start = performance.now();
  let times = 0;
  do {
    await run();
    // What is queued without end is only timed at the end.
    if (++times % 8 === 0) await settle();
  } while (performance.now() - start < seconds * 1000);
  await settle();
  return (performance.now() - start) / 1000 / times;
}
