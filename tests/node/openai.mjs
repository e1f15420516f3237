// Asks Headway through OpenAI's own SDK; prints what came as one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "unused", maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];
const asked = { model: "smollm2", messages, temperature: 0, max_tokens: 8 };

const whole = await client.chat.completions.create(asked);
const stream = await client.chat.completions.create({
  ...asked,
  stream: true,
  stream_options: { include_usage: true },
});
let streamed = "";
let usage = null;
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
const completion = await client.completions.create({
  model: "smollm2",
  prompt: "The sea is",
  temperature: 0,
  max_tokens: 4,
});
const models = [];
for await (const model of client.models.list()) models.push(model.id);
let refusal = null;
try {
  await client.chat.completions.create({ ...asked, best_of: 2 });
} catch (error) {
  refusal = { status: error.status, param: error.param, kind: error.constructor.name };
}
console.log(
  JSON.stringify({
    whole: whole.choices[0].message.content,
    usage_whole: whole.usage,
    streamed,
    usage,
    completion: completion.choices[0].text,
    models,
    refusal,
  }),
);
