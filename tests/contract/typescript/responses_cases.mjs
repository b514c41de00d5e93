// What OpenAI's TypeScript SDKs are asked to do at /v1/responses. The arguments are the package, the server's address and
// its key. Prints what happened as JSON.

const { default: OpenAI } = await import(process.argv[2]);
const { VERSION } = await import(`${process.argv[2]}/version`);
const connect = (apiKey) => new OpenAI({ baseURL: `${process.argv[3]}/v1`, apiKey, maxRetries: 0 });
const client = connect(process.argv[4]);
const model = 'claude-3-7-sonnet-latest';
const sums = ['add', 'multiply', 'subtract'].map((name) => ({
  type: 'function',
  name,
  description: `To ${name}`,
  strict: true,
  parameters: {
    type: 'object',
    properties: { a: { type: 'integer' }, b: { type: 'integer' } },
    required: ['a', 'b'],
    additionalProperties: false,
  },
}));
const answers = { add: 'the sum is 5', multiply: 'the product is 20', subtract: 'the difference is 19' };
const thinking = { reasoning: { effort: 'low', summary: 'auto' }, include: ['reasoning.encrypted_content'] };

// The old helper's response has no `output_text`.
const textOf = (response) =>
  response.output.flatMap((item) => (item.type === 'message' ? item.content : [])).map((part) => part.text).join('');

const told = (response) => ({
  model: response.model,
  status: response.status,
  text: textOf(response),
  items: response.output.map((item) => item.type),
  tokens: [response.usage.input_tokens, response.usage.output_tokens],
});

async function types(input, fields) {
  const seen = [];
  for await (const event of await client.responses.create({ model, input, stream: true, ...fields })) seen.push(event.type);
  return seen;
}

async function helper(input, fields) {
  const deltas = [];
  const stream = client.responses.stream({ model, input, ...fields });
  stream.on('response.output_text.delta', (event) => deltas.push(event.delta));
  return { ...told(await stream.finalResponse()), deltas };
}

async function loop() {
  const input = [{ role: 'user', content: 'begin the sums' }];
  const calls = [];
  for (;;) {
    const response = await client.responses.create({ model, input, tools: sums, ...thinking });
    const asked = response.output.filter((item) => item.type === 'function_call');
    if (!asked.length) return { calls, text: response.output_text };
    input.push(...response.output);
    for (const call of asked) {
      calls.push([call.name, JSON.parse(call.arguments)]);
      input.push({ type: 'function_call_output', call_id: call.call_id, output: answers[call.name] });
    }
  }
}

async function failed(call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    return [error.constructor.name, error.status, error.param, (error.requestID ?? error.request_id ?? '').slice(0, 4)];
  }
  throw new Error('it did not fail');
}

const whole = await client.responses.create({ model, input: 'Hi' });

console.log(
  JSON.stringify({
    version: VERSION,
    whole: { ...told(whole), request_id: whole._request_id.slice(0, 4) },
    types: await types('Hi', { max_output_tokens: 2 }),
    helper: await helper('many scripts', thinking),
    loop: await loop(),
    failed_half_way: await types('fail half way', {}),
    bad_request: await failed(() => client.responses.create({ model, input: [{ role: 'user', content: '' }] })),
    unknown_model: await failed(() => client.responses.create({ model: 'nobody', input: 'Hi' })),
    wrong_key: await failed(() => connect('sk-wrong').responses.create({ model, input: 'Hi' })),
  }),
);
