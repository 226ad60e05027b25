"""What breaks without each safeguard: production code with one rule taken out, run through the simulator's disasters.

A safeguard whose removal nobody notices is useless or untested. So each has an *ablation*: a named replacement of one
function, method or constant by one that lacks the rule, applied to this process alone and only while a run lasts;
production code knows nothing of it. The replacement reports each time that it does otherwise than the original would
have: an ablation that never made a difference has shown nothing, and is said to be unreached instead of unnoticed.
"""
