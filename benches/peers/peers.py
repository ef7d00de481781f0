"""Runs an ONNX file with onnxruntime or openvino, one inference whenever it is asked to: a line of JSON in, one out.

{"load": FILE, "engine": "onnxruntime" | "openvino", "threads": N, "f32": BOOL}  ->  {"version": V}
{"clip": FILE of f32, "shape": [1, C, T, H, W]}                                  ->  {}
{"run": true}                                                                    ->  {"seconds": S, "logits": [...]}

Whatever fails is answered with {"error": WHY}.
"""

import json
import sys
import time


def load_onnxruntime(request):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    options.inter_op_num_threads = 1
    # Threads may wait for one another by spinning, as they do by default, but not between runs: others run then.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(request["load"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return onnxruntime.__version__, lambda clip: session.run(None, {name: clip})[0]


def load_openvino(request):
    import openvino

    settings = {"INFERENCE_NUM_THREADS": request["threads"], "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if request["f32"]:
        # Else it computes in bf16 where the processor can.
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    model = openvino.Core().compile_model(request["load"], "CPU", settings)
    infer = model.create_infer_request()
    output = model.output(0)
    return openvino.__version__.split("-")[0], lambda clip: infer.infer([clip], share_inputs=True)[output]


def main():
    import numpy as np

    run = clip = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if "load" in request:
                load = {"onnxruntime": load_onnxruntime, "openvino": load_openvino}[request["engine"]]
                version, run = load(request)
                answer = {"version": version}
            elif "clip" in request:
                clip = np.fromfile(request["clip"], np.float32).reshape(request["shape"])
                answer = {}
            else:
                begin = time.perf_counter()
                logits = run(clip)
                seconds = time.perf_counter() - begin
                answer = {"seconds": seconds, "logits": np.asarray(logits, np.float32).ravel().tolist()}
        except Exception as why:  # the other side tells it
            answer = {"error": f"{type(why).__name__}: {why}"}
        print(json.dumps(answer), flush=True)


try:
    main()
except ModuleNotFoundError as why:
    print(json.dumps({"error": str(why)}), flush=True)
