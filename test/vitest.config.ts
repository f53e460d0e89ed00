import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    root: new URL("..", import.meta.url).pathname,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Two cores: the engine takes both, and two engines side by side are slower than one after the other.
    maxWorkers: 2,
  },
});
