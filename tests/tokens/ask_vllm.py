"""What vLLM makes of chats: run by an interpreter that has vLLM. A line of JSON for each request on stdin
(`folder` of a tokenizer, `template`, `request`), a line for each answer on stdout: token ids, or null where
vLLM refuses. Its own protocol, message parser and renderer run; only the server around them is left out."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace


def main() -> None:
    from transformers import AutoTokenizer
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.renderers.chat_utils import parse_chat_messages
    from vllm.renderers.hf import resolve_chat_template_content_format, safe_apply_chat_template
    from vllm.renderers.params import merge_kwargs

    model = SimpleNamespace(
        multimodal_config=None,
        enable_prompt_embeds=False,
        allowed_local_media_path="",
        allowed_media_domains=None,
        revision=None,
        code_revision=None,
        tokenizer_revision=None,
        trust_remote_code=False,
        model="x",
        tokenizer="x",
        hf_config=SimpleNamespace(model_type="llama"),
        max_model_len=1 << 20,
    )
    tokenizers = {}
    for line in sys.stdin:
        asked = json.loads(line)
        folder = asked["folder"]
        if folder not in tokenizers:
            tokenizers[folder] = AutoTokenizer.from_pretrained(folder)
        tokenizer = tokenizers[folder]
        try:
            request = ChatCompletionRequest.model_validate(asked["request"])
            tools = None if request.tools is None else [tool.model_dump() for tool in request.tools]
            params = request.build_chat_params(asked["template"], "auto").with_defaults(
                merge_kwargs(None, {"tools": tools, "tokenize": False})
            )
            conversation, _, _ = parse_chat_messages(
                request.messages,
                model,
                content_format=resolve_chat_template_content_format(
                    chat_template=params.chat_template,
                    tools=params.chat_template_kwargs.get("tools"),
                    given_format="auto",
                    tokenizer=tokenizer,
                    model_config=model,
                ),
            )
            kwargs = params.get_apply_chat_template_kwargs()
            text = safe_apply_chat_template(model, tokenizer, conversation, **kwargs)
            special = request.build_tok_params(model).add_special_tokens
            answer = tokenizer.encode(text, add_special_tokens=special)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the engine refuses
            print(repr(error)[:500], file=sys.stderr)
            answer = None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
