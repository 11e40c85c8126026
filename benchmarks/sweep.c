/* The floor of windowed features: one thread, two pointers, sums that round at every step.
 *
 * Events come in the order of time, keys are 0 .. keys - 1. Events and queries are counting-sorted
 * by key; then, for each key and window, a begin and an end pointer move forwards once over its
 * events, with a monotonic queue for the maximum. Columns of `out`, per query and window:
 * sum, count, mean, max; NaN where there is none. Returns 0, or 1 if memory ran out, or 2 if the
 * events are not in the order of time.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int64_t time; double value; } event;
typedef struct { int64_t at; int64_t row; } query;

static int64_t *starts(const int64_t *key, int64_t n, int64_t keys) {
    int64_t *first = calloc((size_t)keys + 2, sizeof *first);
    if (!first) return NULL;
    for (int64_t i = 0; i < n; i++) first[key[i] + 2]++;
    for (int64_t k = 2; k <= keys + 1; k++) first[k] += first[k - 1];
    return first; /* first[key + 1] is where the next event of the key goes */
}

/* Least significant digit first, eleven bits at a time. */
static query *by_time(const int64_t *at, int64_t m) {
    query *here = malloc((size_t)(m + 1) * sizeof *here);
    query *there = malloc((size_t)(m + 1) * sizeof *there);
    int64_t low = INT64_MAX, high = INT64_MIN;
    if (!here || !there) return NULL;
    for (int64_t i = 0; i < m; i++) {
        if (at[i] < low) low = at[i];
        if (at[i] > high) high = at[i];
        here[i] = (query){at[i], i};
    }
    for (int shift = 0; m > 0 && shift < 64 && ((uint64_t)(high - low) >> shift); shift += 11) {
        int64_t count[2049] = {0};
        for (int64_t i = 0; i < m; i++)
            count[(((uint64_t)(here[i].at - low) >> shift) & 2047) + 1]++;
        for (int d = 1; d <= 2048; d++) count[d] += count[d - 1];
        for (int64_t i = 0; i < m; i++)
            there[count[((uint64_t)(here[i].at - low) >> shift) & 2047]++] = here[i];
        query *swap = here;
        here = there;
        there = swap;
    }
    free(there);
    return here;
}

int sweep(int64_t n, const int64_t *key, const int64_t *time, const double *value, int64_t m,
          const int64_t *asked_key, const int64_t *asked_at, int64_t keys, int64_t windows,
          const int64_t *window, double *out) {
    for (int64_t i = 1; i < n; i++)
        if (time[i] < time[i - 1]) return 2;
    int64_t *first = starts(key, n, keys), *asked_first = starts(asked_key, m, keys);
    event *events = malloc((size_t)(n + 1) * sizeof *events);
    query *asked = malloc((size_t)(m + 1) * sizeof *asked), *timely = by_time(asked_at, m);
    int64_t *queue = malloc((size_t)(n + 1) * sizeof *queue);
    if (!first || !asked_first || !events || !asked || !timely || !queue) return 1;
    for (int64_t i = 0; i < n; i++) events[first[key[i] + 1]++] = (event){time[i], value[i]};
    for (int64_t i = 0; i < m; i++) {
        query next = timely[i];
        asked[asked_first[asked_key[next.row] + 1]++] = next;
    }
    for (int64_t k = 0; k < keys; k++) {
        for (int64_t w = 0; w < windows; w++) {
            int64_t begin = first[k], end = first[k], head = 0, tail = 0;
            double sum = 0;
            for (int64_t q = asked_first[k]; q < asked_first[k + 1]; q++) {
                int64_t at = asked[q].at, from = at - window[w];
                while (end < first[k + 1] && events[end].time < at) {
                    double next = events[end].value;
                    sum += next;
                    while (tail > head && events[queue[tail - 1]].value <= next) tail--;
                    queue[tail++] = end++;
                }
                while (begin < end && events[begin].time < from) sum -= events[begin++].value;
                while (head < tail && queue[head] < begin) head++;
                double *found = out + (asked[q].row * windows + w) * 4;
                double count = (double)(end - begin);
                found[0] = count > 0 ? sum : NAN;
                found[1] = count;
                found[2] = count > 0 ? sum / count : NAN;
                found[3] = count > 0 ? events[queue[head]].value : NAN;
            }
        }
    }
    free(first), free(asked_first), free(events), free(asked), free(timely), free(queue);
    return 0;
}
