"""The models that mmdet lacks. Importing this package registers them."""

from .instance_tta import InstanceTTAModel

__all__ = ['InstanceTTAModel']
