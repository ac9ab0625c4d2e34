"""What turns and models exchange: message types, and their form as node bodies and JSON.

Pure values.  The turn machine, the chat policy and the model clients use them.
"""
