"""A folder of medical pictures in, a judged classifier out: every step that matters, from top to bottom.

    python recipes/medical_images.py ../shared/data/brain_mri --model microsoft/resnet-18

The pictures lie in a folder for each class (here ``no`` and ``yes``, for a tumour). With few pictures, what matters is:
copies of one picture must not lie on both sides; pictures of one patient neither, where a table says whose they are
(``--group``); augmentation must not turn left into right; and the score needs an interval, because a handful of test
pictures says little. Not for clinical use.
"""

import argparse
from pathlib import Path

import whet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="a folder for each class, or a table with a column of file names")
    parser.add_argument("--model", required=True, help="a folder, a hub id such as microsoft/resnet-18, or a file")
    parser.add_argument("--target", help="the column to predict, for a table")
    parser.add_argument("--group", help="the column that says whose picture it is, for a table")
    parser.add_argument("--out", default="runs/medical")
    wanted = parser.parse_args()

    # 1. What is wrong with the pictures? Copies, nearly equal ones, blank ones, marks that give the class away.
    checked = whet.check(wanted.rows, wanted.target, group=wanted.group)
    for finding in checked.findings:
        print(f"{finding.level}: {finding.message}\n  {finding.where}\n  try: {finding.fix}")

    # 2. A probe, the top blocks on augmented views, all of it: each rung is kept only if held-out pictures say so.
    #    The area under the curve is what decides: it does not depend on a threshold, nor on how rare the illness is.
    result = whet.finetune(
        wanted.rows,
        wanted.target,
        model=wanted.model,
        group=wanted.group,
        metric="auc",
        out=wanted.out,
        settings=["evaluation.also=[sensitivity-at-95-specificity, accuracy, log-loss, calibration-error]"],
    )

    # 3. Is it better than something cheaper, and how sure is that?
    print(result.verdict.sentence)
    for score in result.judgements[0].scores["model"]:
        print(f"  {score.metric:30} {score.value:.3f}  (95%: {score.low:.3f} to {score.high:.3f})")

    # 4. Look at what it got wrong before believing anything: the report shows the pictures.
    print(f"report: {Path(result.folder) / 'report.html'}")


if __name__ == "__main__":
    main()
