// A client of the official SDK, in either protocol era: `client.mjs JSON`.
//
// JSON: {"era": "legacy" or a version, "command": [...] or "url": "...", "calls": [[tool, arguments], ...],
//        "says": {"action": ..., "content": ...}}
// Prints {"version": ..., "tools": [...], "asked": [...], "answers": [...]}; an answer is a result, or {"thrown": text}.

const asked = JSON.parse(process.argv[2]);
const questions = [];
const info = { name: "test", version: "1" };
const options = { capabilities: asked.says ? { elicitation: { form: {} } } : {} };

async function answer(request) {
  questions.push(request.params.message);
  return asked.says;
}

async function legacy() {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const { ElicitRequestSchema } = await import("@modelcontextprotocol/sdk/types.js");
  const client = new Client(info, options);
  if (asked.says) client.setRequestHandler(ElicitRequestSchema, answer);
  return { client, StdioClientTransport, StreamableHTTPClientTransport };
}

async function modern() {
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
  const client = new Client(info, { ...options, versionNegotiation: { mode: { pin: asked.era } } });
  if (asked.says) client.setRequestHandler("elicitation/create", answer);
  return { client, StdioClientTransport, StreamableHTTPClientTransport };
}

const { client, StdioClientTransport, StreamableHTTPClientTransport } = await (asked.era === "legacy" ? legacy() : modern());
const transport = asked.url
  ? new StreamableHTTPClientTransport(new URL(asked.url))
  : new StdioClientTransport({ command: asked.command[0], args: asked.command.slice(1), env: process.env, stderr: "ignore" });
await client.connect(transport);
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const answers = [];
for (const [name, given] of asked.calls) {
  try {
    answers.push(await client.callTool({ name, arguments: given }));
  } catch (error) {
    answers.push({ thrown: String(error.message) });
  }
}
console.log(JSON.stringify({ tools, asked: questions, answers }));
await client.close();
