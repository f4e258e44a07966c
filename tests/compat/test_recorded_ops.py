def test_ops_agree_with_the_recorded_outputs_of_the_compiled_ones(shared, run_python):
    checker = str(shared / 'golden' / 'check_mmcv_ops.py')
    said = run_python(f"import runpy, sys; sys.argv = [{checker!r}]; runpy.run_path({checker!r}, run_name='__main__')")
    assert said.split() == ['67', 'passed,', '0', 'failed']
