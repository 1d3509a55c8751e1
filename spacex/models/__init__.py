"""The networks: classifier, generator (maximiser and minimiser), discriminator, all plain `torch.nn.Module`."""
