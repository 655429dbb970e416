"""One pure module per API shape: request body in, `Call` out; tokens in, answer bytes out.

base         what all share: Call, Answer, errors in the engines' own JSON
template     messages, tools and parts as token bytes
chat         POST /v1/chat/completions
completions  POST /v1/completions
responses    POST /v1/responses
messages     POST /v1/messages (Anthropic)
generate     POST /generate (SGLang)
embeddings   POST /v1/embeddings
"""
