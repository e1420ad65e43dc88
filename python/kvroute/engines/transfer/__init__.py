"""How a simulated engine plays one role, prefill or decode, of a request served by two engines.

One module for each connector says what the role checks and answers. The blocks move over the
engines' own data plane (`side_channel`); what a prefill engine computed stays in its cache until it
was read or its time is over (`holds`).
"""
