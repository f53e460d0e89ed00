import { describe, expect, it } from "vitest";
import { chatTemplateOf } from "#src/calibration/chat-template.js";
import type { Turn } from "#src/calibration/documents.js";
import { fixture } from "../source/data-set-fixtures.js";

/** By transformers: scripts/make-data-set-fixtures.py */
const golden = JSON.parse(new TextDecoder().decode(fixture("chats.json"))) as {
  readonly tokens: Readonly<Record<string, string>>;
  readonly templates: Readonly<Record<string, string>>;
  readonly conversations: readonly (readonly Turn[])[];
  readonly expected: Readonly<Record<string, readonly { readonly text?: string; readonly refused?: string }[]>>;
};
const HI: Turn[] = [{ role: "user", content: "Hi" }];

describe.each(Object.entries(golden.templates))("the template %s", (name, template) => {
  it("writes conversations as transformers does, and refuses those that it refuses", () => {
    const chat = chatTemplateOf(undefined, JSON.stringify({ ...golden.tokens, chat_template: template }))!;
    const written = golden.conversations.map((conversation) => {
      try {
        return { text: chat.render(conversation) };
      } catch (error) {
        return { refused: (error as Error).message };
      }
    });
    expect(written).toEqual(golden.expected[name]);
  });
});

describe("a chat template", () => {
  const config = (value: unknown) => JSON.stringify({ chat_template: value, bos_token: { content: "<b>", lstrip: false } });

  it("is that of chat_template.jinja, or else of tokenizer_config.json, or else none", () => {
    expect(chatTemplateOf("file", config("config"))!.render(HI)).toBe("file");
    expect(chatTemplateOf(undefined, config("config"))!.render(HI)).toBe("config");
    expect(chatTemplateOf(undefined, config([{ name: "tools", template: "tools" }, { name: "default", template: "default" }]))!.render(HI)).toBe("default");
    expect(chatTemplateOf(undefined, config([{ name: "tools", template: "tools" }]))).toBeUndefined();
    expect(chatTemplateOf(undefined, config(undefined))).toBeUndefined();
    expect(chatTemplateOf(undefined, undefined)).toBeUndefined();
  });

  it("knows the special tokens, as texts and as objects, and no others", () => {
    expect(chatTemplateOf("{{ bos_token }}|{{ eos_token }}", config(undefined))!.render(HI)).toBe("<b>|");
  });

  it("is told the same date every day", () => {
    expect(chatTemplateOf("{{ strftime_now('%d %b %Y, %A %B %a %m %H:%M:%S %% %j') }}", undefined)!.render(HI)).toBe("26 Jul 2024, Friday July Fri 07 00:00:00 % %j");
  });

  it("that is none, or turns without roles, are errors of the conversation", () => {
    expect(() => chatTemplateOf("{% for %}", undefined)!.render(HI)).toThrow(Error);
    expect(() => chatTemplateOf("{{ messages[0].content }}", undefined)!.render([{ content: "Hi" }])).toThrow(new Error("a turn has no role"));
  });
});
