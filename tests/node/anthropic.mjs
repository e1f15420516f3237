// Asks Headway through Anthropic's own SDK; prints what came as one JSON object.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0 });
const asked = {
  model: "smollm2",
  max_tokens: 4,
  temperature: 0,
  messages: [{ role: "user", content: "Say hello." }],
};
const visit = {
  name: "visit",
  description: "Visit a city",
  input_schema: {
    type: "object",
    properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
    required: ["city"],
    additionalProperties: false,
  },
};

async function refusal(wanted) {
  try {
    await wanted;
  } catch (error) {
    return {
      kind: error.constructor.name,
      status: error.status,
      type: error.type,
      message: error.error?.error?.message,
      request_id: error.requestID,
    };
  }
  return null;
}

async function text() {
  const whole = await client.messages.create(asked);
  const stream = client.messages.stream(asked);
  let deltas = "";
  stream.on("text", (delta) => (deltas += delta));
  const kinds = [];
  stream.on("streamEvent", (event) => kinds.push(event.type));
  const final = await stream.finalMessage();
  return {
    whole: whole.content[0].text,
    usage: whole.usage,
    has_request_id: Boolean(whole._request_id),
    stream_has_request_id: Boolean(stream.request_id),
    deltas,
    kinds: kinds.filter((kind, at) => kind !== kinds[at - 1]),
    final: final.content[0].text,
    final_usage: final.usage,
    stop_reason: final.stop_reason,
  };
}

async function system() {
  const plain = await client.messages.countTokens({
    model: asked.model,
    messages: asked.messages,
    system: "Be brief.",
  });
  const blocks = {
    ...asked,
    system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }],
  };
  const { usage } = await client.messages.create(blocks);
  return {
    counted: plain.input_tokens,
    billed: usage.input_tokens + usage.cache_read_input_tokens,
  };
}

async function stops() {
  const { content } = await client.messages.create(asked);
  const sequence = content[0].text.trim().split(" ")[1];
  const message = await client.messages.create({ ...asked, stop_sequences: [sequence] });
  return {
    sequence,
    text: message.content[0].text,
    stop_reason: message.stop_reason,
    stop_sequence: message.stop_sequence,
  };
}

async function tools() {
  const forced = {
    ...asked,
    max_tokens: 60,
    tools: [visit],
    tool_choice: { type: "tool", name: "visit", disable_parallel_tool_use: true },
  };
  const whole = await client.messages.create(forced);
  const stream = client.messages.stream(forced);
  let json = "";
  stream.on("inputJson", (delta) => (json += delta));
  const final = await stream.finalMessage();
  const [use] = final.content.filter((block) => block.type === "tool_use");
  const answered = await client.messages.create({
    ...asked,
    tools: [visit],
    tool_choice: { type: "none" },
    messages: [
      ...asked.messages,
      { role: "assistant", content: final.content },
      {
        role: "user",
        content: [
          {
            type: "tool_result",
            tool_use_id: use.id,
            content: [{ type: "text", text: "It is closed." }],
            is_error: true,
          },
          { type: "text", text: "What now?" },
        ],
      },
    ],
  });
  return {
    whole: whole.content.map((block) => block.input),
    stop_reason: whole.stop_reason,
    json,
    input: use.input,
    final_stop_reason: final.stop_reason,
    answered: answered.content.map((block) => block.type),
  };
}

async function refusals() {
  const image = {
    type: "image",
    source: { type: "base64", media_type: "image/png", data: "aGk=" },
  };
  return {
    parameter: await refusal(client.messages.create({ ...asked, temperature: 2 })),
    image: await refusal(
      client.messages.create({ ...asked, messages: [{ role: "user", content: [image] }] }),
    ),
    model: await refusal(client.messages.create({ ...asked, model: "nobody" })),
    stream: await refusal(client.messages.stream({ ...asked, model: "nobody" }).finalMessage()),
    count: await refusal(client.messages.countTokens({ model: "nobody", messages: [] })),
  };
}

async function models() {
  const ids = [];
  for await (const each of client.models.list()) ids.push(each.id);
  return { ids, retrieved: (await client.models.retrieve(asked.model)).id };
}

const parts = { text, system, stops, tools, refusals, models };
const told = Object.entries(parts).map(async ([name, part]) => [name, await part()]);
console.log(JSON.stringify(Object.fromEntries(await Promise.all(told))));
