"""Changing ONNX graphs in memory and running them without burning an idle core."""

from pathlib import Path

import onnx
import onnxruntime

from services.runtime.errors import LoadFailed


def read(path: Path) -> onnx.ModelProto:
    """The model in a file. Raises LoadFailed."""
    try:
        return onnx.load(str(path))
    except Exception as error:
        raise LoadFailed(f"{path.name}: not an ONNX model ({type(error).__name__})") from error


def only(model: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    """The one node of this operator. Raises LoadFailed if there is none, or more than one."""
    found = [node for node in model.graph.node if node.op_type == operator]
    if len(found) != 1:
        raise LoadFailed(f"the graph has {len(found)} {operator} nodes; durations are read from exactly one")
    return found[0]


def feed(model: onnx.ModelProto, tensor: str) -> None:
    """Make an inner float tensor [n] an input of the graph, instead of what it was computed from."""
    producer = next(node for node in model.graph.node if tensor in node.output)
    producer.output[list(producer.output).index(tensor)] = f"{tensor}_unread"
    model.graph.input.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, [None]))


def scale(model: onnx.ModelProto, tensor: str, factor: str) -> None:
    """Multiply an inner tensor, for all who read it, by a new float input [1] named `factor`."""
    nodes = model.graph.node
    position, producer = next((i, node) for i, node in enumerate(nodes) if tensor in node.output)
    raw = f"{tensor}_unscaled"
    producer.output[list(producer.output).index(tensor)] = raw
    nodes.insert(position + 1, onnx.helper.make_node("Mul", [raw, factor], [tensor]))
    model.graph.input.append(onnx.helper.make_tensor_value_info(factor, onnx.TensorProto.FLOAT, [1]))


def session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    """A CPU session whose threads sleep when there is nothing to do. Raises LoadFailed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise LoadFailed(f"onnxruntime cannot run the model: {error}") from error
