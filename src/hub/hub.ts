/** How a Hub is reached: what all requests have in common. */
export interface Hub {
  /** Without a slash at the end, as HF_ENDPOINT has it: https://huggingface.co */
  readonly endpoint: string;
  /** Goes to the endpoint's own origin and nowhere else; never printed. */
  readonly token?: string;
  /** One request, through whatever proxy there is. It tries once. */
  readonly fetch: typeof fetch;
}

/** What lies on a Hub under one name. */
export interface HubRepo {
  readonly type: "model" | "dataset";
  /** `org/name`, or a bare name for the oldest repos. */
  readonly id: string;
}
