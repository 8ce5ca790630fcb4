// One step of an element-wise optimizer, recorded from its formula. A block of threads does a piece of a tensor.
struct Tensor {
    float *theta;
    const float *gradient;
    float *state[7];
    float *direction;
    unsigned long long length;
    unsigned long long arguments;
    const double *numbers;
};

struct Piece {
    unsigned int tensor;
    unsigned int number;
};

extern "C" __global__ void np_step(const Piece *pieces, const Tensor *tensors, const float *arguments) {
    const Piece piece = pieces[blockIdx.x];
    const Tensor tensor = tensors[piece.tensor];
    const unsigned long long start = 4096ull * piece.number;
    const unsigned long long left = tensor.length - start;
    const unsigned int length = left < 4096ull ? (unsigned int)left : 4096u;
    float *__restrict__ const theta = tensor.theta + start;
    const float *__restrict__ const gradient = tensor.gradient + start;
    float *__restrict__ const state0 = tensor.state[0] + start;
    const float *__restrict__ const a = arguments + 7ull * tensor.arguments;
    const float v3 = a[0];
    const float v4 = a[1];
    const float v5 = a[2];
    const float v6 = a[3];
    const float v11 = a[4];
    const float v12 = a[5];
    const float v13 = a[6];
    for (unsigned int first = threadIdx.x; first < length; first += 4u * blockDim.x) {
        float r0[4];
        float r1[4];
        float r2[4];
#pragma unroll
        for (unsigned int k = 0; k < 4u; k += 1) {
            const unsigned int i = first + k * blockDim.x;
            if (i < length) {
                r0[k] = state0[i];
                r1[k] = theta[i];
                r2[k] = gradient[i];
            }
        }
#pragma unroll
        for (unsigned int k = 0; k < 4u; k += 1) {
            const unsigned int i = first + k * blockDim.x;
            if (i < length) {
                const float v0 = r0[k];
                const float v1 = r1[k];
                const float v2 = r2[k];
                const float v7 = __fmul_rn(v5, v2);
                const float v8 = -v6;
                const float v9 = v7 < v8 ? v8 : v7;
                const float v10 = v6 < v9 ? v6 : v9;
                const float v14 = __fmul_rn(v11, v1);
                const float v15 = __fadd_rn(v10, v14);
                const float v16 = __fmul_rn(v3, v0);
                const float v17 = __fmul_rn(v4, v15);
                const float v18 = __fadd_rn(v16, v17);
                const float v19 = __fmul_rn(v12, v1);
                const float v20 = __fmul_rn(v13, v18);
                const float v21 = __fsub_rn(v19, v20);
                theta[i] = v21;
                state0[i] = v18;
            }
        }
    }
}
