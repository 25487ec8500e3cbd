// Positions of boxes and lines: dagre in a worker, so that the page can be used while it works.

const LAYOUT_SECONDS = 6;

class GraphLayout {
  constructor(source) {
    const reply = "self.onmessage = ({ data: asked }) => { try { layout(asked.nodes, asked.edges, asked.options, {}); "
      + "self.postMessage(asked); } catch (error) { self.postMessage({ id: asked.id, error: String(error) }); } };";
    this.url = URL.createObjectURL(new Blob([source, "\n", reply], { type: "text/javascript" }));
    this.asked = 0;
    this.worker = null;
  }

  // Positions of boxes and of the points of edges; the latest question is the only one that is answered.
  place(boxes, edges) {
    if (this.worker) this.worker.terminate();
    const id = ++this.asked;
    return new Promise((resolve, reject) => {
      const worker = this.worker = new Worker(this.url);
      const end = (act, value) => {
        clearTimeout(timer);
        worker.terminate();
        act(value);
      };
      const timer = setTimeout(() => end(reject, new Error("takes too long")), LAYOUT_SECONDS * 1000);
      worker.onerror = (event) => end(reject, new Error(event.message || "the worker did not start"));
      worker.onmessage = ({ data: answer }) => answer.error ? end(reject, new Error(answer.error)) : end(resolve, answer);
      worker.postMessage({ id, nodes: boxes, edges, options: { nodesep: 18, ranksep: 26, edgesep: 10, ranker: "longest-path" } });
    });
  }
}
