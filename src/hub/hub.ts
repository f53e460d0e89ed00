/** How a Hub is reached: what all requests have in common. */
export interface Hub {
  /** Without a slash at the end, as HF_ENDPOINT has it: https://huggingface.co */
  readonly endpoint: string;
  /** Goes to the endpoint's own origin and nowhere else; never printed. */
  readonly token?: string;
  /** One request, through whatever proxy there is. It tries once. */
  readonly fetch: typeof fetch;
}

/** Where the Hub is unless HF_ENDPOINT says otherwise. */
export const PUBLIC_ENDPOINT = "https://huggingface.co";

/** An address that the Hub gives, at the endpoint: what a mirror passes on names the public Hub, as huggingface_hub's `fix_hf_endpoint_in_url` knows. */
export function onEndpoint({ endpoint }: Hub, url: string): string {
  return url.startsWith(`${PUBLIC_ENDPOINT}/`) ? endpoint + url.slice(PUBLIC_ENDPOINT.length) : url;
}

/** What lies on a Hub under one name. */
export interface HubRepo {
  readonly type: "model" | "dataset";
  /** `org/name`, or a bare name for the oldest repos. */
  readonly id: string;
}
