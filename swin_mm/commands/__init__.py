"""What a person runs: ``swin-mm COMMAND``. A file a command: its arguments, and one call."""

# What `swin-mm --help` shows; the module of a command is imported when it runs.
COMMANDS = {
    'train': 'train a model',
    'test': 'test a checkpoint: metrics, drawn images, several views',
    'pack': 'put a trained model into a folder to share',
    'predict': 'draw what a model finds in images, and write its predictions',
    'init': 'write a config that trains on your own data',
    'check': 'find what is wrong with the data sets of a config',
    'verify': "test published weights and compare with the recipe's numbers",
    'recipes': 'list the recipes with their expected numbers',
    'browse': 'draw what a network is fed, with its annotations',
    'analyze': 'say what went wrong in a test: kinds of error, confusions, the worst images',
    'plot': 'draw losses, learning rates and metrics of trainings',
    'explain': 'draw what a trained model looks at in an image',
    'serve': 'show a web page that finds things in pictures dropped on it, and answers programs in JSON',
    'convert': "write weights in another library's dialect, or tell what a file holds",
    'flops': 'count the parameters and multiply-adds of a model',
    'benchmark': "time the backbone beside other libraries'",
    'doctor': 'report what is installed, what works and what is wrong',
}
