"""What headers and graphs have in common: the preset dictionary they are deflated with.

A network of a few kilobytes has as much JSON and ONNX around its weights as weights; most of it is
the same in all. The dictionary is part of the format from version 2 on and never changes.
"""

from __future__ import annotations

import zlib
from typing import Final

# The most usual comes last: deflate reaches it with the fewest bits.
_OPERATORS: Final = (
    b"SoftmaxSigmoidHardSwishHardSigmoidMulTransposeSqueezeUnsqueezeMatMulLSTMGRUhidden_size"
    b"directionbidirectionallinear_before_resetConcatBatchNormalizationepsilonmomentum"
    b"training_modeLayerNormalizationSliceSplitGatherShapeCastConstantAveragePool"
    b"count_include_padReduceMeankeepdimsAddGlobalAveragePoolClipminmaxFlattenReshapeallowzero"
)
_LAYERS: Final = (
    b'"\x07MaxPool*\x14\n\rstorage_order\x18\x00\xa0\x01\x02*\x12\n\tdilations@\x01@\x01\xa0\x01'
    b"\x07*\x10\n\tceil_mode\x18\x00\xa0\x01\x02*\x11\n\x04pads@\x00@\x00@\x00@\x00\xa0\x01\x07*"
    b'\x15\n\x08auto_pad"\x06NOTSET\xa0\x01\x03*\x10\n\x07strides@\x02@\x02\xa0\x01\x07*\x15\n\x0c'
    b"kernel_shape@\x02@\x02\xa0\x01\x07\n"
    b'\x12\x04relu\x1a\x04relu"\x04Relu\n'
    b'\x1a\x07flatten"\x07Flatten*\x0b\n\x04axis\x18\x01\xa0\x01\x02\n'
    b'"\x04Gemm*\x0f\n\x05alpha\x15\x00\x00\x80?\xa0\x01\x01*\x0e\n\x04beta\x15\x00\x00\x80?\xa0'
    b"\x01\x01*\r\n\x06transA\x18\x00\xa0\x01\x02*\r\n\x06transB\x18\x01\xa0\x01\x02\n"
    b"\n\x0cconv1.weight\n\nconv1.bias\x12\x05conv1\x1a\x05conv1"
    b'"\x04Conv*\x0c\n\x05group\x18\x01\xa0\x01\x02*\x11\n\x04pads@\x01@\x01@\x01@\x01\xa0\x01\x07*'
    b'\x15\n\x08auto_pad"\x06NOTSET\xa0\x01\x03*\x10\n\x07strides@\x01@\x01\xa0\x01\x07*\x12\n\t'
    b"dilations@\x01@\x01\xa0\x01\x07*\x15\n\x0ckernel_shape@\x03@\x03\xa0\x01\x07\n"
    b"\x08\n\x12\x07pytorchZ\x1b\n\x05input\x12\x12\n\x10\x08\x01\x12\x0c\n\x07\x12\x05batch\n\x02"
    b"\x08\x01b\x18\n\x06output\x12\x0e\n\x0c\x08\x01\x12\x08\n\x07\x12\x05batch\n\x02\x08\nB\x04\n"
    b"\x00\x10\x12*\x11\x08\x10\x10\x01B\x0bfc.weight*"
)
_STRUCTURE: Final = (
    b'{"kind":"network","structure":{"layers":{"conv1":{"type":"Conv2d","settings":{"in_channels":'
    b'1,"out_channels":16,"kernel_size":{"tuple":[3,3]},"stride":{"tuple":[1,1]},"padding":'
    b'{"tuple":[1,1]},"dilation":{"tuple":[1,1]},"groups":1,"bias":true,"padding_mode":"zeros"}},'
    b'"norm1":{"type":"BatchNorm2d","settings":{"num_features":16,"eps":1e-05,"momentum":0.1,'
    b'"affine":true,"track_running_stats":true}},"relu1":{"type":"ReLU","settings":{"inplace":'
    b'false}},"pool1":{"type":"MaxPool2d","settings":{"kernel_size":2,"stride":2,"padding":0,'
    b'"dilation":1,"return_indices":false,"ceil_mode":false}},"fc1":{"type":"Linear","settings":'
    b'{"in_features":64,"out_features":10,"bias":true}},"flatten":{"type":"Flatten","settings":'
    b'{"start_dim":1,"end_dim":-1}}},"tensors":{},"calls":[["input_1","placeholder","input",[],{}],'
    b'["conv1","call_module","conv1",[{"node":"input_1"}],{}],["add","call_function","add",['
    b'{"node":"relu1"},{"node":"x"}],{}],["output","output","output",[{"node":"fc1"}],{}]]},'
)
_TENSORS: Final = (
    b'"name":"norm1.running_mean","running_var","num_batches_tracked","dtype":"int64","shape":[],'
    b'"quantizer":null,"coder":null,"arrays":[["values","int64",[],"raw",8]]},'
    b'"quantizer":{"name":"fixed_point","integer_bits":8,"fraction_bits":8,"rounding":"nearest"},'
    b'"quantizer":{"name":"affine","bits":8,"granularity":"channel"},"coder":"adaptive","arrays":'
    b'[["quantizer.scale","float32",[16],"raw",64],["quantizer.zero_point","int32",[16],"adaptive",'
    b'"coder":"ans","arrays":[["coder.classes","int32",["coder.counts","uint32",'
    b'"coder":"huffman","arrays":[["coder.groups","int32",["coder.counts","int32",["coder.tokens",'
    b'"quantizer":{"name":"codebook","levels":16,"start":"linear","reserve_zero":true,"seed":0},'
    b'"coder":"adaptive","arrays":[["quantizer.centres","float32",[16],"raw",64],["quantizer.zero",'
    b'"int32",[],"raw",4],["symbols","int32",[10,16],"adaptive",'
    b'"quantizer":null,"coder":null,"arrays":[["mask","uint8",[16,3,3,3],"adaptive",["values",'
    b'"float32",[16],"raw",64]]},{"kind":"onnx","graph_bytes":1000,"tensors":[{"name":"conv1.bias",'
    b'"dtype":"float32","shape":[16],"quantizer":{"name":"uniform","step":1.0,"threshold":0.5,'
    b'"shift":0.0,"fit_shift":false},"coder":"adaptive","arrays":[["quantizer.step","float32",[],'
    b'"raw",4],["quantizer.threshold","float32",[],"raw",4],["quantizer.shift","float32",[],"raw",'
    b'4],["symbols","int32",[16],"adaptive",18]]},{"name":"conv1.weight","dtype":"float32","shape":'
    b'[16,3,3,3],"quantizer":{"name":"scaled","step":1.0},"coder":"adaptive","arrays":[['
    b'"quantizer.step","float32",[],"raw",4],["quantizer.rows","int8",[16],"adaptive",6],['
    b'"quantizer.columns","int8",[27],"adaptive",14],["symbols","int32",[16,3,3,3],"adaptive",138]]'
    b'}],"parts":[170,34]}'
)
PRESET: Final = _OPERATORS + _STRUCTURE + _LAYERS + _TENSORS


def deflated(data: bytes) -> bytes:
    """Bytes as a zlib stream with the preset dictionary."""
    made = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY, PRESET)
    return made.compress(data) + made.flush()


def inflated(stream: bytes, most_bytes: int) -> bytes:
    """The bytes of a zlib stream, with the preset dictionary where it says so.

    Args:
        stream: All of it.
        most_bytes: It may hold.

    Raises:
        ValueError: It is no such stream, ends too early or too late, or holds more.
    """
    reading = zlib.decompressobj(zdict=PRESET)
    try:
        found = reading.decompress(stream, most_bytes + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not reading.eof or reading.unused_data or len(found) > most_bytes:
        msg = f"the stream holds more than {most_bytes} bytes, or does not end where it should"
        raise ValueError(msg)
    return found
