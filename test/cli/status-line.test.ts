import { afterEach, expect, it, vi } from "vitest";
import { StatusLine } from "#src/cli/status-line.js";

afterEach(() => { vi.useRealTimers(); });

const RETRY = { type: "retry", request: "GET https://hub.test/org/name/resolve/main/model.safetensors", why: "nothing was heard for 30 s", next: 3, tries: 6, seconds: 4 } as const;
const SAID = "Trying again in 4.0 s (3 of 6): nothing was heard for 30 s, GET https://hub.test/org/name/resolve/main/model.safetensors";

/** What a stream is written, a terminal or not; each drawing of the line by itself. */
function stream(isTTY: boolean) {
  const written: string[] = [];
  const out = { isTTY, columns: 200, write: (text: string) => written.push(text.replace("\r", "").replace("\x1b[K", "")) };
  return { written, line: new StatusLine(out as unknown as NodeJS.WriteStream) };
}

it("shows on a terminal what a Hub is asked once more, in place of the rest, until it is asked", () => {
  vi.useFakeTimers();
  const { written, line } = stream(true);
  line.update({ done: 0.5, doing: "layer 3/6" });
  line.retry(RETRY);
  vi.advanceTimersByTime(3000);
  line.update({ done: 0.75, doing: "layer 4/6" });
  vi.advanceTimersByTime(1000);
  line.update({ done: 0.75, doing: "layer 4/6" });
  const bar = (full: number) => `${"█".repeat(full)}${"░".repeat(24 - full)}`;
  expect(written.map((text) => text.replace(/ {2}[\d.]+ [kMG]B$/, ""))).toEqual([`${bar(12)}  50 %  layer 3/6`, `${bar(12)}  50 %  ${SAID}`, `${bar(18)}  75 %  ${SAID}`, `${bar(18)}  75 %  layer 4/6`]);
});

it("shows it before there is any progress, and takes it away", () => {
  const { written, line } = stream(true);
  line.retry(RETRY);
  line.clear();
  expect(written).toEqual([SAID, ""]);
});

it("tells it to a log as a line", () => {
  const { written, line } = stream(false);
  line.update({ done: 0.5, doing: "layer 3/6" });
  line.retry(RETRY);
  line.clear();
  expect(written).toEqual([`${SAID}\n`]);
});
