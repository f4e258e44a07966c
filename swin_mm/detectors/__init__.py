"""Models and heads that mmdet lacks. Importing it registers them."""

from .instance_tta import InstanceTTAModel

__all__ = ['InstanceTTAModel']
