from pathlib import Path


def test_draw(make_request, map_offline, tmp_path):
    from spacex.mapping.quicklook import draw

    map_offline(
        make_request(intervals=(("2020-07-01", "2020-07-31"), ("2020-08-01", "2020-08-30"))), tmp_path / "q.zarr"
    )
    draw(str(tmp_path / "q.zarr"), "/tmp/q.png")
