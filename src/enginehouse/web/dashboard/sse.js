// Reads a stream of server-sent events out of an answer to `fetch`. May not live here: what the events mean.

/** The data of each event, as text, until the stream ends. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (data.length) yield data.map((line) => line.slice(line[5] === " " ? 6 : 5)).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
