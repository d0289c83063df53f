"""Peer (e): the usual do-it-yourself way, a whole process.

sentence-transformers embeds every text at its defaults (float32, batches of 32), scikit-learn fits a logistic
regression (lbfgs) whose C is chosen by 5-fold cross-validation. Four values of C around the best one are fewer than
the library's default of ten between 1e-4 and 1e4: that favours the peer.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from rows import read_rows, save_answers, save_result
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegressionCV

PENALTIES = (0.1, 1.0, 10.0, 100.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("train", "test", "model", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--target", required=True)
    wanted = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)  # of defaults that a later scikit-learn will change

    texts, labels = read_rows(wanted.train, wanted.text, wanted.target)
    test_texts, test_labels = read_rows(wanted.test, wanted.text, wanted.target)
    encoder = SentenceTransformer(str(wanted.model))
    features = encoder.encode(texts)
    regression = LogisticRegressionCV(Cs=PENALTIES, cv=5, max_iter=1000).fit(features, labels)
    answers = regression.predict(encoder.encode(test_texts))
    names = list(regression.classes_)
    save_answers(wanted.out / "answers.npz", [names.index(answer) for answer in answers])
    save_result(
        wanted.out,
        accuracy=float(np.mean(answers == np.array(test_labels))),
        penalty=float(np.ravel(regression.C_)[0]),
    )


if __name__ == "__main__":
    main()
