"""HTTP/1.1 as bytes: pure functions and small machines, no sockets.

heads     the head of a client's request, read by llhttp, remembered by its bytes
chunked   the body of a client's chunked request, read by llhttp
answers   a worker's answer: its head, and where its body ends
replies   what the router itself answers: errors, in the shape that the client's API knows
"""
