// Asks Headway through OpenAI's own SDK; prints what came as one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "unused", maxRetries: 0 });
const model = "smollm2";
const messages = [{ role: "user", content: "Say hello." }];
const brief = { model, messages, temperature: 0, max_tokens: 4 };
const schema = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};

async function refusal(asked) {
  try {
    await asked;
  } catch (error) {
    return {
      kind: error.constructor.name,
      status: error.status,
      type: error.type,
      code: error.code,
      param: error.param,
      has_request_id: Boolean(error.requestID),
    };
  }
  return null;
}

async function chat() {
  const whole = await client.chat.completions.create(brief);
  const runner = client.chat.completions.stream({
    ...brief,
    stream_options: { include_usage: true },
  });
  let deltas = "";
  runner.on("content", (delta) => (deltas += delta));
  const final = await runner.finalChatCompletion();
  let iterated = "";
  for await (const chunk of await client.chat.completions.create({ ...brief, stream: true }))
    iterated += chunk.choices[0]?.delta?.content ?? "";
  return {
    whole: whole.choices[0].message.content,
    usage: whole.usage,
    has_request_id: Boolean(whole._request_id),
    deltas,
    iterated,
    final: final.choices[0].message.content,
    final_usage: final.usage,
  };
}

async function logprobs() {
  const asked = { ...brief, logprobs: true, top_logprobs: 2 };
  const whole = await client.chat.completions.create(asked);
  const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
  const { content } = whole.choices[0].logprobs;
  return {
    text: whole.choices[0].message.content,
    joined: content.map((entry) => entry.token).join(""),
    alternatives: content.map((entry) => entry.top_logprobs.length),
    streamed: streamed.choices[0].logprobs.content.map((entry) => entry.token).join(""),
  };
}

async function parsed() {
  const format = {
    type: "json_schema",
    json_schema: { name: "place", schema, strict: true },
  };
  const asked = { ...brief, max_tokens: 30, response_format: format };
  const whole = await client.chat.completions.parse(asked);
  const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
  return {
    content: whole.choices[0].message.content,
    streamed: streamed.choices[0].message.content,
  };
}

async function tools() {
  const told = [];
  const visit = {
    type: "function",
    function: {
      name: "visit",
      description: "Visit a city",
      parameters: schema,
      parse: JSON.parse,
      function: (given) => {
        told.push(given);
        return `You are in ${given.city}.`;
      },
    },
  };
  const asked = {
    ...brief,
    max_tokens: 60,
    tools: [visit],
    tool_choice: { type: "function", function: { name: "visit" } },
  };
  const whole = client.chat.completions.runTools(asked);
  await whole.done();
  const streamed = client.chat.completions.runTools({ ...asked, stream: true });
  await streamed.done();
  return {
    told,
    roles: whole.messages.map((message) => message.role),
    streamed_roles: streamed.messages.map((message) => message.role),
    result: streamed.messages.at(-1).content,
  };
}

async function completions() {
  const asked = { model, prompt: "The sea is", temperature: 0, max_tokens: 4 };
  const whole = await client.completions.create({ ...asked, logprobs: 1 });
  let streamed = "";
  for await (const chunk of await client.completions.create({ ...asked, stream: true }))
    streamed += chunk.choices[0]?.text ?? "";
  return { whole: whole.choices[0].text, streamed, tokens: whole.choices[0].logprobs.tokens };
}

async function embeddings() {
  const asked = { model: "minilm", input: ["tea", "a cup of tea"] };
  const decoded = await client.embeddings.create(asked); // asks for base64 by itself
  const floats = await client.embeddings.create({ ...asked, encoding_format: "float" });
  const most = Math.max(
    ...decoded.data.flatMap((each, row) =>
      Array.from(each.embedding, (value, at) => Math.abs(value - floats.data[row].embedding[at])),
    ),
  );
  return { lengths: decoded.data.map((each) => each.embedding.length), most };
}

async function responses() {
  const asked = { model, input: "Say hello.", temperature: 0, max_output_tokens: 4 };
  const whole = await client.responses.create(asked);
  const kinds = [];
  const stream = client.responses.stream(asked);
  stream.on("event", (event) => kinds.push(event.type));
  const final = await stream.finalResponse();
  const next = await client.responses.create({
    ...asked,
    input: "And again.",
    previous_response_id: whole.id,
  });
  const retrieved = await client.responses.retrieve(next.id);
  const items = [];
  for await (const item of client.responses.inputItems.list(next.id, { limit: 2, order: "asc" }))
    items.push({ type: item.type, role: item.role, text: item.content[0].text });
  const forced = await client.responses.stream({
    ...asked,
    max_output_tokens: 60,
    tools: [{ type: "function", name: "visit", parameters: schema, strict: true }],
    tool_choice: { type: "function", name: "visit" },
  }).finalResponse();
  const [call] = forced.output;
  const answered = await client.responses.create({
    ...asked,
    previous_response_id: forced.id,
    input: [{ type: "function_call_output", call_id: call.call_id, output: "Sunny." }],
  });
  const placed = await client.responses.parse({
    ...asked,
    max_output_tokens: 30,
    text: { format: { type: "json_schema", name: "place", schema, strict: true } },
  });
  await client.responses.delete(next.id);
  return {
    whole: whole.output_text,
    final: final.output_text,
    kinds: [...new Set(kinds)],
    next: next.previous_response_id === whole.id,
    retrieved: retrieved.output_text === next.output_text,
    items,
    call: { name: call.name, arguments: JSON.parse(call.arguments) },
    answered: answered.status,
    placed: JSON.parse(placed.output_text),
    deleted: await refusal(client.responses.retrieve(next.id)),
    cancelled: await refusal(client.responses.cancel(whole.id)),
    unknown: await refusal(
      client.responses.create({ ...asked, previous_response_id: "resp_none" }),
    ),
    background: await refusal(client.responses.create({ ...asked, background: true })),
  };
}

async function models() {
  const ids = [];
  for await (const each of client.models.list()) ids.push(each.id);
  return { ids, retrieved: (await client.models.retrieve(model)).id };
}

async function refusals() {
  return {
    parameter: await refusal(client.chat.completions.create({ ...brief, best_of: 2 })),
    model: await refusal(client.chat.completions.create({ ...brief, model: "nobody" })),
    long: await refusal(client.completions.create({ model, prompt: "a ".repeat(20_000) })),
    stream: await refusal(
      client.chat.completions.create({ ...brief, stream: true, temperature: 3 }),
    ),
    path: await refusal(client.files.list()),
  };
}

const parts = { chat, logprobs, parsed, tools, completions, embeddings, responses, models, refusals };
const told = Object.entries(parts).map(async ([name, part]) => [name, await part()]);
console.log(JSON.stringify(Object.fromEntries(await Promise.all(told))));
