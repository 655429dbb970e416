"""The control plane: FastAPI, on the same port as the inference endpoints.

bridge    a framed request goes to uvicorn's protocol, on the client's own connection
api       the endpoints
"""
