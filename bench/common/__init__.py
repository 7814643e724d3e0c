"""What several benches need: processes that surely end, CPU meters, installing peers, the OpenAI SDK's requests.

Owns tools that know of no bench. May not live here: contestants (`bench.contestants`), anything that is measured.
"""
