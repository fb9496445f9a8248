"""Uses a server as the official clients of OpenAI's API and of the Model Context Protocol do."""

import asyncio
import json
import sys
from pathlib import Path

import httpx2
import openai
from mcp import ClientSession, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

LOOM, WORK, ADDRESS, TOKEN = sys.argv[1:]


def chat() -> None:
    client = openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key=TOKEN, max_retries=0)
    assert sorted(model.id for model in client.models.list()) == ["caller", "weather"]

    messages = [{"role": "user", "content": "How is the weather?"}]
    whole = client.chat.completions.create(model="weather", messages=messages)
    assert whole.choices[0].message.content == "It rains today.", whole
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == 36, whole.usage

    text, finish, usage, chunks = "", None, None, 0
    stream = client.chat.completions.create(
        model="weather", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        chunks += 1
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert text == "I look.\n\nIt rains today.", text
    assert (finish, usage.total_tokens) == ("stop", 36), (finish, usage)
    assert chunks > 3, chunks

    tools = [{
        "type": "function",
        "function": {
            "name": "forecast",
            "description": "Returns the forecast for a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }]
    messages = [{"role": "user", "content": "Tomorrow in Paris?"}]
    for streamed in (False, True):
        if streamed:
            with client.chat.completions.stream(model="caller", messages=messages, tools=tools) as events:
                for _ in events:
                    pass
                asked = events.get_final_completion()
        else:
            asked = client.chat.completions.create(model="caller", messages=messages, tools=tools)
        choice = asked.choices[0]
        assert choice.finish_reason == "tool_calls", asked
        call = choice.message.tool_calls[0]
        assert call.function.name == "forecast"
        assert json.loads(call.function.arguments) == {"city": "Paris"}
    after = messages + [
        choice.message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    answer = client.chat.completions.create(model="caller", messages=after, tools=tools)
    assert answer.choices[0].message.content == "The tool says: sunny", answer

    try:
        client.chat.completions.create(model="nobody", messages=messages)
        raise AssertionError("a model that does not exist answers")
    except openai.NotFoundError as error:
        assert "nobody" in str(error), error
    try:
        openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="wrong", max_retries=0).models.list()
        raise AssertionError("a wrong token is accepted")
    except openai.AuthenticationError:
        pass
    print(f"openai {openai.__version__}: whole, {chunks} chunks, tools called twice, two refusals")


async def use(way: str, session: ClientSession) -> None:
    await session.initialize()
    tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert sorted(tools) == ["add", "caller", "weather"], tools
    assert tools["add"].description == "Adds two whole numbers."
    assert tools["add"].input_schema["required"] == ["a", "b"]
    told = []

    async def progress(current, total, message):
        told.append((current, total, message))

    result = await session.call_tool("add", {"a": 40, "b": 2}, progress_callback=progress)
    assert not result.is_error, result
    assert result.structured_content == {"sum": 42}, result
    assert told == [(1.0, 1.0, "adding")], told
    said = await session.call_tool("weather", {"message": "How is the weather?"})
    assert said.content[0].text == "It rains today.", said
    refused = await session.call_tool("add", {"a": "x"})
    assert refused.is_error and "do not match its schema" in refused.content[0].text, refused
    keyed = [await session.call_tool("add", {"a": 1, "b": 1}, meta={"loom/idempotencyKey": way}) for _ in range(2)]
    runs = {result.meta["loom/runId"] for result in keyed}
    assert len(runs) == 1, runs
    try:
        await session.call_tool("nothing", {})
        raise AssertionError("a tool that does not exist answers")
    except MCPError as error:
        assert "no tool 'nothing'" in str(error), error
    print(f"mcp over {way}: three tools, seven calls")


async def tools() -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as client:
        async with streamable_http_client(f"{ADDRESS}/mcp", http_client=client) as streams:
            async with ClientSession(*streams[:2]) as session:
                await use("/mcp", session)
    data = str(Path(WORK) / "data")
    own = ["mcp", "--workflows", f"{WORK}/workflows", "--connections", f"{WORK}/connections.json", "--data", data]
    passed_on = ["mcp", "--server", ADDRESS, "--token-file", f"{WORK}/token"]
    for way, arguments in (("stdio", own), ("stdio to a server", passed_on)):
        async with stdio_client(StdioServerParameters(command=LOOM, args=arguments)) as streams:
            async with ClientSession(*streams[:2]) as session:
                await use(way, session)


chat()
asyncio.run(tools())
