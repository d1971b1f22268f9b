"""Generated clips in unlimited number: motion labels depend on frame order, appearance labels do not.

    from c3dvideo import synthetic

    scene = synthetic.draw_scene(seed=0, index=17)
    clip = synthetic.render([scene], height=112, width=112)      # uint8 (1, 3, 16, 112, 112), RGB
    synthetic.write_dataset("videos", clips_per_class=8, seed=0)  # real mp4 files of everyday motions

See `motions` for why neither a single frame nor a bag of frames predicts a motion label.
"""

from c3dvideo.synthetic.everyday import EVERYDAY, everyday_scene
from c3dvideo.synthetic.maps import render_maps, render_parts
from c3dvideo.synthetic.motions import MOTION_TASKS
from c3dvideo.synthetic.people import PEOPLE_TASKS, draw_people
from c3dvideo.synthetic.rendering import render
from c3dvideo.synthetic.scenes import APPEARANCE_TASKS, TASKS, Scene, draw_scene
from c3dvideo.synthetic.synthetic_videos import synthesize, write_dataset

__all__ = [
    "APPEARANCE_TASKS",
    "EVERYDAY",
    "MOTION_TASKS",
    "PEOPLE_TASKS",
    "TASKS",
    "Scene",
    "draw_people",
    "draw_scene",
    "everyday_scene",
    "render",
    "render_maps",
    "render_parts",
    "synthesize",
    "write_dataset",
]
