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
    float *__restrict__ const state1 = tensor.state[1] + start;
    const float *__restrict__ const a = arguments + 11ull * tensor.arguments;
    const float v4 = a[0];
    const float v5 = a[1];
    const float v6 = a[2];
    const float v7 = a[3];
    const float v8 = a[4];
    const float v9 = a[5];
    const float v10 = a[6];
    const float v11 = a[7];
    const float v12 = a[8];
    const float v17 = a[9];
    const float v18 = a[10];
    for (unsigned int first = threadIdx.x; first < length; first += 4u * blockDim.x) {
        float r0[4];
        float r1[4];
        float r2[4];
        float r3[4];
#pragma unroll
        for (unsigned int k = 0; k < 4u; k += 1) {
            const unsigned int i = first + k * blockDim.x;
            if (i < length) {
                r0[k] = state0[i];
                r1[k] = state1[i];
                r2[k] = theta[i];
                r3[k] = gradient[i];
            }
        }
#pragma unroll
        for (unsigned int k = 0; k < 4u; k += 1) {
            const unsigned int i = first + k * blockDim.x;
            if (i < length) {
                const float v0 = r0[k];
                const float v1 = r1[k];
                const float v2 = r2[k];
                const float v3 = r3[k];
                const float v13 = __fmul_rn(v11, v3);
                const float v14 = -v12;
                const float v15 = v13 < v14 ? v14 : v13;
                const float v16 = v12 < v15 ? v12 : v15;
                const float v19 = __fmul_rn(v4, v0);
                const float v20 = __fmul_rn(v6, v16);
                const float v21 = __fadd_rn(v19, v20);
                const float v22 = __fmul_rn(v5, v1);
                const float v23 = __fmul_rn(v16, v16);
                const float v24 = __fmul_rn(v7, v23);
                const float v25 = __fadd_rn(v22, v24);
                const float v26 = __fmul_rn(v21, v8);
                const float v27 = __fsqrt_rn(v25);
                const float v28 = __fmul_rn(v27, v9);
                const float v29 = __fadd_rn(v28, v10);
                const float v30 = __fdiv_rn(v26, v29);
                const float v31 = __fmul_rn(v17, v2);
                const float v32 = __fmul_rn(v18, v30);
                const float v33 = __fsub_rn(v31, v32);
                theta[i] = v33;
                state0[i] = v21;
                state1[i] = v25;
            }
        }
    }
}
