"""The demo: videos, features, a classifier, neighbours and a map, shown on one page.

result = demo("demo")                       # on generated videos
result = demo("demo", videos="my_videos")   # on a folder of your own: a folder per class, or videos without classes
"""

from c3dvideo.demo.demo_run import DemoResult, demo

__all__ = ["DemoResult", "demo"]
