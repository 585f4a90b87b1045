/* Scores an ensemble of trees by AND-ing bit masks instead of walking them: QuickScorer (Lucchese et al., SIGIR 2015).
 *
 * A tree owns one or more 32-bit words, one bit per leaf from left to right. A node whose test fails rules out the
 * leaves on its left; the lowest bit that is left is the leaf that the row reaches. What a feature's value rules out in
 * ALL trees is one row of masks, made when the model is loaded (quickscorer.py): for each category, and for each
 * `stride`-th of a number's sorted thresholds; the thresholds since then are taken off one by one. So a row of the model
 * costs one pass of ANDs, which the compiler turns into vector instructions, and hardly a branch.
 *
 * The sum runs in the order of the trees, without contraction, so that scores equal LightGBM's bit by bit.
 */
#include <math.h>
#include <stdint.h>

#define LANES 8 /* words that are AND-ed together in registers; rows of masks are padded to it */

struct stk_feature {
    int32_t column;          /* in the row */
    int32_t categorical;     /* else a number */
    int32_t count;           /* categories, or thresholds */
    int32_t stride;          /* thresholds per row of masks */
    const double *threshold; /* count, rising */
    const int32_t *word;     /* count: which word of the trees a threshold clears ... */
    const uint32_t *mask;    /* ... and what it keeps there */
    const uint32_t *rows;    /* masks (.., words): missing, then per category, or after 0, stride, 2 stride thresholds */
};

struct stk_model {
    int32_t features, trees, words;
    int32_t link; /* 0 none, 1 logistic, 2 exponential */
    double slope; /* of the logistic link */
    const struct stk_feature *feature;
    const int32_t *first; /* trees: the first word of each */
    const double *leaf;   /* 32 per word */
};

/* How many of n > 0 rising thresholds are less than x; no branch that depends on x. */
static int32_t rank(const double *threshold, int32_t n, double x)
{
    const double *low = threshold;
    while (n > 1) {
        int32_t half = n / 2;
        low += low[half - 1] < x ? half : 0;
        n -= half;
    }
    return (int32_t)(low - threshold) + (*low < x);
}

/* The score of one row; `left` is room for `words` words. */
double stk_score(const struct stk_model *model, const double *restrict row, uint32_t *restrict left)
{
    const int32_t features = model->features, words = model->words;
    const uint32_t *masks[features + 1];
    int32_t from[features + 1], to[features + 1];

    for (int32_t f = 0; f < features; f++) {
        const struct stk_feature *feature = model->feature + f;
        double x = row[feature->column];
        int32_t place = 0;
        from[f] = to[f] = 0;
        if (feature->categorical) {
            if (x > -1 && x < feature->count) place = 1 + (int32_t)x;
        } else if (x == x) {
            if (fabs(x) <= 1e-35f) x = 0; /* as LightGBM reads a dense row */
            to[f] = rank(feature->threshold, feature->count, x);
            place = to[f] / feature->stride;
            from[f] = place * feature->stride;
            place++;
        }
        masks[f] = feature->rows + (int64_t)place * words;
    }
    for (int32_t w = 0; w < words; w += LANES) {
        uint32_t lane[LANES];
        for (int k = 0; k < LANES; k++) lane[k] = UINT32_MAX;
        for (int32_t f = 0; f < features; f++)
            for (int k = 0; k < LANES; k++) lane[k] &= masks[f][w + k];
        for (int k = 0; k < LANES; k++) left[w + k] = lane[k];
    }
    for (int32_t f = 0; f < features; f++) {
        const struct stk_feature *feature = model->feature + f;
        for (int32_t i = from[f]; i < to[f]; i++) left[feature->word[i]] &= feature->mask[i];
    }
    double sum = 0;
    for (int32_t t = 0; t < model->trees; t++) {
        int32_t w = model->first[t];
        while (!left[w]) w++;
        sum += model->leaf[32 * (int64_t)w + __builtin_ctz(left[w])];
    }
    if (model->link == 1) return 1.0 / (1.0 + exp(-model->slope * sum));
    return model->link == 2 ? exp(sum) : sum;
}

void stk_score_many(const struct stk_model *model, const double *rows, int64_t n, int64_t columns, uint32_t *left,
                    double *scores)
{
    for (int64_t i = 0; i < n; i++) scores[i] = stk_score(model, rows + i * columns, left);
}
