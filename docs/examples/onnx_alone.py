"""C3D features without c3dvideo: `python onnx_alone.py c3d.onnx a.mp4`, c3d.onnx exported with preprocessing."""

import sys

import av
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
with av.open(sys.argv[2]) as video:
    frames = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
for start in range(0, len(frames) - 15, 16):
    clips = frames[None, start : start + 16]  # uint8 (1, 16, H, W, 3)
    features = session.run(["fc6"], {"clips": clips})[0]
    print(start, features.shape, float(np.linalg.norm(features)))
