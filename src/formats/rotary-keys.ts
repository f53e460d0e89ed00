/**
 * What transformers 5 says in rope_parameters, under the older keys of config.json: of mlx-lm 0.32 some families look for those alone, and take
 * 10000 for the base where there is none, without a word.
 */
export function rotaryKeys({ rope_parameters: rotary, rope_theta: base }: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { rope_theta: theta, rope_type: type = "default" } = (rotary ?? {}) as Readonly<Record<string, unknown>>;
  if (theta === undefined || base !== undefined) return {};
  return { rope_theta: theta, ...(type !== "default" && { rope_scaling: rotary }) };
}
